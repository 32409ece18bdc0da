"""Where candidates come from: archives, read record by record however damaged they are."""

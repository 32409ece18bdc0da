"""What there is to read, far and near: archives, lists, data sets."""

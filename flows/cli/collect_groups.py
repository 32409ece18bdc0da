"""The headings under which `winnow collect --help` shows the options of a collection."""

from cyclopts import Group, Parameter

from pipelines.collect.config import SOURCES, CollectConfig

GROUPS = {
    "Sources, one kind of them": (*SOURCES, "earlier"),
    "Crawls": ("sites", "sitemaps", "crawl_images", "max_depth"),
    "Archives and indexes": ("path_prefix", "languages", "hosts", "mime", "base_url"),
    "Lists and data sets": ("import_images", "import_name", "text_column", "url_column"),
    "Candidates": ("target_width", "surrounding", "before_fetch"),
    "The web": (
        "contact",
        "images_per_second",
        "fetch",
        "fresh_days",
        "ca_file",
        "allow_private_addresses",
        "allow_private_proxy",
    ),
    "Budgets": ("deadline", "max_bytes", "max_pages", "max_pages_per_host"),
    "Images": ("resize", "size", "only_if_bigger", "format", "quality", "keep_original"),
}


def group_options() -> None:
    """Give the options their headings; cyclopts reads them from the metadata of the fields."""
    for number, (title, names) in enumerate(GROUPS.items()):
        for name in names:
            heading = Parameter(group=Group(title, sort_key=number))
            CollectConfig.model_fields[name].metadata.append(heading)

"""Where scans come from: each source lists scans with what is known of them, and reads no voxels."""

from preprocess.sources.discover import list_scans
from preprocess.sources.listing import Listing

__all__ = ["Listing", "list_scans"]

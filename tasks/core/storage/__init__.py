"""Files on any filesystem: listing, reading, and atomic publishing, independent of their content."""

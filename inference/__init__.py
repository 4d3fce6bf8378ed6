"""From pixels to findings, and from findings to DICOM objects."""

"""From findings to DICOM objects."""

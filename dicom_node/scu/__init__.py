"""What the node asks of DICOM peers."""

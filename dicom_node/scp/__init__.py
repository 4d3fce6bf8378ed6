"""What the node offers to DICOM peers: verification and storage."""

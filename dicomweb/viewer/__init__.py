"""The OHIF viewer, served by the node on its own DICOMweb: fetched by `package`, given out by `serving`."""

"""Coded concepts that the lung engine speaks in.

Source: PS3.16 (CID numbers beside each), UCUM. The densitometry indices have no code in PS3.16; they stand in a
scheme of this product's own, as PS3.16 section 8 provides for.
"""

from __future__ import annotations

from inference.findings import Code

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")  # CID 7150
LUNG = Code("39607008", "SCT", "Lung")  # CID 7155
RIGHT = Code("24028007", "SCT", "Right")  # CID 244
LEFT = Code("7771000", "SCT", "Left")  # CID 244
BOTH = Code("51440002", "SCT", "Right and left")  # CID 244

VOLUME = Code("118565006", "SCT", "Volume")  # CID 7461
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")  # CID 7469 and TID 1419
LAA_950 = Code("LAA950", "99DICOMNODE", "Low attenuation area below -950 HU, share of lung volume")
PERC15 = Code("PERC15", "99DICOMNODE", "15th percentile of lung density")
MEAN = Code("373098007", "SCT", "Mean")  # CID 7464

CUBIC_CENTIMETRE = Code("cm3", "UCUM", "Cubic centimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "Percent")

#: Algorithm family of classical engines. Source: CID 7162.
HISTOGRAM_ANALYSIS = Code("123105", "DCM", "Histogram Analysis")

"""Files of annotation programs: COCO, YOLO, LabelMe, CVAT and Label Studio, read as labels or as shapes."""

"""Reports: one self-contained HTML page, and JUnit's XML for a CI system."""

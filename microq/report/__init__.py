"""Reports to keep and to hand in: one HTML page that needs nothing else, and JUnit's XML for a CI system."""

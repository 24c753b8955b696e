"""The dashboard: a page that shows a running system or a finished run, and lets its user act on the system."""

"""The web dashboard: a page that shows a system while it runs, or a run that is over, and lets its owner act on it."""

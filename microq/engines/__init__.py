"""The servers that microq runs but did not write: a JVM, the jars, how each engine is configured and started."""

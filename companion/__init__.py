"""First Questions: the code that the lessons build, to be used on models of your own."""

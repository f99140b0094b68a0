"""FLOPs, memory and traffic: what a run costs."""

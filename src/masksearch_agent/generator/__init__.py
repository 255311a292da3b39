"""Trajectories from a multi-agent graph: planner, rewriter, observer, judge."""

"""Every figure and table of Srinivas & Babu (BMVC 2015), run anew: one small script for each."""

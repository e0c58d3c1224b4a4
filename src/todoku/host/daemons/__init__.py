"""Our own daemons as resources: the unit or program of each, its user, its folders, and when it is restarted."""

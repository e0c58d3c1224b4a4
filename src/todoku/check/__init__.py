"""The judge: would Gmail, Yahoo and Outlook take it, and if not, what is to be done.

One module for each topic. Each looks at one thing with what it is handed (`means`) and tells what it saw as findings
(`finding`), which the command line, JSON and tests show alike. `rules` says of every rule who demands it.
"""

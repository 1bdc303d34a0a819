"""What there is to set: a module a topic, a group a part of the system.

A part of the system takes its group, and knows no other. `tree` has all of them, `loading` says where their values come from.
"""

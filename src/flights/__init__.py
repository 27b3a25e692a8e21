"""The reference workload: will this flight arrive more than 15 minutes late, asked two hours before its departure?"""

"""Airflow's view of Freshet: each task calls one function of the packages below."""

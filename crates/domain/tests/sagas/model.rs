//! A random model: any DAG of steps, any faults, and in the end nothing is half done.

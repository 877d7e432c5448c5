"""The whole idea at work in minutes: train models of several families, measure, compress, compare, report.

`codelength.demo.run.run_demo` is the entry; nothing is imported here, so that a part's process starts quickly.
"""

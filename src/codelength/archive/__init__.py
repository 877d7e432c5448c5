"""Archives: `.clen` files of version 2, which hold any mix of files. docs/format.md describes every byte."""

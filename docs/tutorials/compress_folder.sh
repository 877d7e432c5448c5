codelength compress photos notes.txt -o backup.clen
codelength info backup.clen
codelength decompress backup.clen -o restored

# ./codelength is a checkout of the project; mine/ is your folder: PNG, JPEG, WebP or TIFF, all of one size (else --set data.options.crop=64 cuts squares).
pip install ./codelength
codelength train photos32-causal_window --set data.name=mine --set training.steps=600 --out runs/mine
codelength evaluate runs/mine --split test
codelength compress runs/mine mine -o mine.clen
codelength report runs/mine -o report.html

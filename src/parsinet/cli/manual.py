"""What stands below the options in `parsinet COMMAND --help`: examples, and what is good to know."""

TRAIN = """
**Examples**

    parsinet train --data digits --model lenet-300-100 --method gates --out runs/first

    parsinet train --data mnist --method gates --set method.price=3e-4 --epochs 20 --out runs/mnist

    parsinet train --recipe runs/first/recipe.yaml --seed 1 --out runs/second

    parsinet train --model mypackage.nets:small --set model.width=64 --data images/ --out runs/mine

    parsinet train --resume runs/first

    torchrun --nproc-per-node 2 -m parsinet train --data mnist --method gates --auto-resume --out runs/two

What `--recipe` says is overridden by options, and these by `--set`. The folder holds recipe.yaml (every setting), record.jsonl
(what happened, step by step), model/ (the result) and checkpoint/. A run survives Ctrl-C, SIGTERM and kill -9: it is saved after every
epoch, or as `--set checkpoint.every.minutes=10` says, and `--resume` goes on bitwise as if it had never stopped. A run locks its folder.
"""
INSPECT = """
**Examples**

    parsinet inspect --model lenet-5-caffe --data mnist

    parsinet inspect --model resnet-20 --input-shape 3,32,32 --classes 10

    parsinet inspect --model mypackage.nets:small --input-shape 64 --json

    parsinet inspect --model tiny-vit --input-shape 1,28,28 --png tiny-vit.png
"""
TUNE = """
**Examples**

    parsinet tune --recipe base.yaml --space space.yaml --trials 40 --out sweeps/first

    parsinet tune --recipe base.yaml --space space.yaml --objectives error --pruner median --out sweeps/error

    parsinet tune --recipe base.yaml --space space.yaml --seeds 0,1,2 --storage postgresql://user@host/sweeps --out sweeps/wide

A space names entries of the recipe: `optimizer.lr: {low: 1e-4, high: 1e-2, log: true}`, `model.widths: {choices: [[64, 32], [128, 64]]}`.
The recipe needs `data: {validation: 0.1}`: the test split is never looked at. Start the command several times, here or on other machines
with the same `--storage`, and the workers share the trials. The same command goes on with a sweep that was stopped or killed; more
`--trials` extend it. The folder holds study.json, pareto.png, best.yaml and knee.yaml for `parsinet train --recipe`, and all runs.
"""
REPORT = """
**Examples**

    parsinet report runs/first

    parsinet report sweeps/first

    parsinet report runs/dense runs/gates --out runs/comparison

    parsinet report runs/dense runs/gates --html comparison.html
"""
WATCH = """
**Examples**

    parsinet watch runs/first

    parsinet watch runs/first --browser
"""
EXPORT = """
**Examples**

    parsinet export runs/first --to onnx

    parsinet export runs/first --to bundle --license apache-2.0 --out lenet-on-digits

    parsinet export runs/sparse --to csr --batch 64

    parsinet export lean --to torch-export --model lenet-5-caffe --input-shape 1,28,28 --out lean.pt2

What is written is first compared with the network, on test examples of the run; if it computes something else, nothing is written.
"""
DEMO = """
**Example**

    parsinet demo --out runs/demo
"""
BENCH = """
**Examples**

    parsinet bench quick --out runs/quick

    parsinet bench mnist-units --data DIR --out runs/mnist-units --jobs 2

    parsinet bench my_suite.yaml --out runs/mine --only Gates --only dense --seed 0

    parsinet bench quick --out runs/quick --table

    parsinet bench --check --claims benchmarks/claims.yaml

Suites: quick (digits, minutes), mnist-units, mnist-weights, cifar, text. A training that stands in the folder's records.jsonl is not run
again: the same command goes on after Ctrl-C or kill -9. report.md and pareto.png are made of the records alone.
"""

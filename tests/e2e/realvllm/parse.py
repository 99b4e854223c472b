"""Has vLLM's own parser read `vllm serve` command lines, from standard input as JSON.

It says what it took of each, or ends with vLLM's complaint. Run by vLLM's Python.
"""

import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
print(json.dumps([vars(parser.parse_args(words)) for words in json.load(sys.stdin)], default=str))

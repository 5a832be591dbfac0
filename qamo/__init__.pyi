# What type checkers see of the package; at run time its parts are imported when they are asked for.
from qamo.inference.api import Judge as Judge
from qamo.inference.api import open_judge as open_judge
from qamo.inference.judge import Judgement as Judgement

__version__: str

class InputError(Exception): ...

"""What genbench requires of a generative model: a loss for each player, a way to draw, and declared abilities.

A model turns a batch into a loss and a generator into images. It contains no optimiser, no choice of device, no file
access, no print and no global random numbers: the harness does all of that. An optional ability (a likelihood, a
decoder, ...) is an abstract base class; a model declares it by inheriting, and metrics test it with `issubclass`.

Shapes: B images, C channels, H height, W width. Pixels are uint8 grey-level indices 0 .. levels-1; model inputs and
samples are floats in [-1, 1] (`genbench.space` converts).

A training may divide each batch among processes. A loss that is a mean over images needs no change for that, nor does
batch normalisation of torch.nn or F. Where images of a batch depend on each other in another way, a model asks for what
the other processes have with across_processes, own_rows and mean_across_processes (genbench.processes.group).
"""

from genbench.contract.abilities import ABILITIES as ABILITIES
from genbench.contract.abilities import ClassConditional as ClassConditional
from genbench.contract.abilities import Decodes as Decodes
from genbench.contract.abilities import DequantisedDensity as DequantisedDensity
from genbench.contract.abilities import Encodes as Encodes
from genbench.contract.abilities import ExactLikelihood as ExactLikelihood
from genbench.contract.abilities import ImportanceBound as ImportanceBound
from genbench.contract.abilities import LikelihoodBound as LikelihoodBound
from genbench.contract.abilities import LikelihoodEstimate as LikelihoodEstimate
from genbench.contract.abilities import Reconstructs as Reconstructs
from genbench.contract.abilities import Steps as Steps
from genbench.contract.abilities import TextConditional as TextConditional
from genbench.contract.abilities import Translates as Translates
from genbench.contract.abilities import abilities as abilities
from genbench.contract.images import Batch as Batch
from genbench.contract.images import Condition as Condition
from genbench.contract.images import DataSpec as DataSpec
from genbench.contract.models import DiffusersPart as DiffusersPart
from genbench.contract.models import DiffusersParts as DiffusersParts
from genbench.contract.models import Draws as Draws
from genbench.contract.models import Model as Model
from genbench.contract.training import Loss as Loss
from genbench.contract.training import Recipe as Recipe
from genbench.contract.training import Stage as Stage
from genbench.options import Count as Count
from genbench.options import Share as Share
from genbench.options import Weight as Weight
from genbench.processes.group import across_processes as across_processes
from genbench.processes.group import mean_across_processes as mean_across_processes
from genbench.processes.group import own_rows as own_rows

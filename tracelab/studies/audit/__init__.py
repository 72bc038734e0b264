"""Which step decided that an agent's run failed?"""

from tracelab.studies.audit import study as study

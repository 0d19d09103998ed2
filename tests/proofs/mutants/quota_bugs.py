"""Bugs in the quotas of owners, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug

_QUOTA = "shared/core/quota.py"

QUOTA_BUGS = (
    Bug(
        "a quota is not written with its run",
        "shared/store/runs.py",
        "            *quota_writes(quota, tx),\n",
        "",
    ),
    Bug(
        "a quota is written although it has changed",
        "shared/store/quotas.py",
        "    return [Put(row, quota.etag) if quota.etag else Insert(row)]",
        "    return [Put(row)]",
    ),
    Bug(
        "a run in an older session does not count",
        "shared/usecases/quota.py",
        "    await context.quotas.write(admission.quota)\n",
        "",
    ),
    Bug(
        "one pending run more than the quota is admitted",
        _QUOTA,
        "pending >= limits.pending_runs:",
        "pending > limits.pending_runs:",
    ),
    Bug(
        "a start waits until the newest one leaves the minute",
        _QUOTA,
        "    if len(kept) >= most and kept[-most] + WINDOW > now:",
        "    if len(kept) >= most and kept[-1] + WINDOW > now:",
    ),
    Bug(
        "a repeated start is over a quota",
        "shared/usecases/start.py",
        "    except (NotFound, Conflict, InvalidInput, TooMany):",
        "    except (NotFound, Conflict, InvalidInput):",
    ),
)

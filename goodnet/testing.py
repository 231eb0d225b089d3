"""For tests of orders and policies of your own: do they keep to what is expected of them?"""

from prune_core.testing import check_order, check_policy

__all__ = ["check_order", "check_policy"]

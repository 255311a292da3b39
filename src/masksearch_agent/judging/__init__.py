"""The one model judge, used by generator, rewards and evaluation."""

"""What several tests share: real wheels, small snapshots. Import as ``from support.wheels import ...``."""

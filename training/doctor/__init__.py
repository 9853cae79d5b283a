"""What this machine and this FRESHET_HOME lack: ``freshet doctor``. Checks look and ask; they change nothing."""

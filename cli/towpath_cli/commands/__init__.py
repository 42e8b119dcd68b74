"""One module per command of `towpath`; `towpath_cli.main` names them and loads the one that was asked for."""

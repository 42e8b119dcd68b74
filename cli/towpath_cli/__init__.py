"""The operator's and publisher's tool: the command `towpath`. It talks to a server and never imports one."""

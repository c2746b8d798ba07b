package members

const runNode = "FAIRLEAD_MEMBERS_NODE"

func nodeMain() {}

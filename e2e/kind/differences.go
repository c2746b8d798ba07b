package kind

// Difference is a story that a cluster of containers cannot run as the lab does.
type Difference struct{ Story, Why string }

// Differences from the lab; e2e/README.md lists them too.
var Differences = []Difference{
	{"TestRouterSharesConnectionsBetweenTheNodesAndMissesALostOne", "it starts and ends the programs of the lab's router itself"},
	{"TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", "Docker chooses the address of a container that starts again, and nobody tells the Node of it while the API server is away"},
	{"TestMonitoringExample", "it runs Prometheus beside the lab's control plane"},
	{"TestLabsService", "the client, a container, does not see the scripts of labs/"},
	{"TestLabsInstall", "it gives the scripts of labs/ the lab's own control plane"},
}

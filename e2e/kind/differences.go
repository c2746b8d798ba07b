package kind

// Difference is a story that a cluster of containers cannot run as the lab does.
type Difference struct {
	Story, Why string
	Engine     string // with which it cannot; empty for both
}

// Differences from the lab; e2e/README.md lists them too.
var Differences = []Difference{
	{Story: "TestRouterSharesConnectionsBetweenTheNodesAndMissesALostOne", Why: "it starts and ends the programs of the lab's router itself"},
	{Story: "TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", Engine: Docker,
		Why: "Docker chooses the address of a container that starts again, and nobody tells the Node of it while the API server is away"},
	{Story: "TestMonitoringExample", Why: "it runs Prometheus beside the lab's control plane"},
	{Story: "TestLabsService", Why: "the client, a container, does not see the scripts of labs/"},
	{Story: "TestStaticPodGivesTheAPIServerItsAddress", Why: "it starts an API server on a node beside the cluster's"},
	{Story: "TestLabsInstall", Why: "it gives the scripts of labs/ the lab's own control plane"},
}

// differences are those with the engine of the options.
func (o Options) differences() []Difference {
	var list []Difference
	for _, d := range Differences {
		if d.Engine == "" || (d.Engine == Podman) == o.podman() {
			list = append(list, d)
		}
	}
	return list
}

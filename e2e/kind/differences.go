package kind

// Difference is a story that a cluster of containers cannot run as the lab does.
type Difference struct {
	Story, Why string
	Engine     string // with which it cannot; empty for both
	Needs      string // Dual or IPv4: it cannot in a cluster that lacks these addresses; empty if any do
	KubeProxy  bool   // it cannot beside kube-proxy
}

// Reasons that several stories share.
const (
	itsRouter    = "it starts and ends programs of the lab's router"
	itsSwitch    = "it has the lab's switch drop frames, and listens in the network of the client"
	bothFamilies = "it asks for addresses of both families, and this cluster has one"
	fixedIPv4    = "it asks for IPv4 addresses, and this cluster has none"
	forwards     = "it looks at what fairlead forwards, and kube-proxy forwards here"
)

// Differences are all that there are. A story that is left out skips itself with the
// reason.
var Differences = []Difference{
	{Story: "TestRouterSharesConnectionsBetweenTheNodesAndMissesALostOne", Why: itsRouter},
	{Story: "TestAddressOfTwoClusters", Why: itsRouter},
	{Story: "TestConnectionsOutliveTheRoutersNextHops", Why: itsRouter},
	{Story: "TestAddressesFollowThePrefixOfTheNetwork", Why: itsRouter},
	{Story: "TestAddressesAreLeasedFromTheNetwork", Why: itsRouter},
	{Story: "TestTwoNetworks", Why: "it gives the lab's nodes a second network"},
	{Story: "TestNodesThatBreakInPartAreNotBelieved", Why: itsSwitch},
	{Story: "TestDirectedConnectionsOutliveTheirOwner", Why: itsSwitch},
	{Story: "TestManyFlowsOverARangeOfPorts", Why: itsSwitch},
	{Story: "TestControlPlane", Why: "it makes control planes of its own, on the lab's nodes"},
	{Story: "TestMonitoringExample", Why: "it runs Prometheus beside the lab's control plane"},
	{Story: "TestLabsService", Why: "the client, a container, does not see the scripts of labs/"},
	{Story: "TestStaticPodGivesTheAPIServerItsAddress", Why: "it starts an API server on a node beside the cluster's"},
	{Story: "TestLabsInstall", Why: "it gives the scripts of labs/ the lab's own control plane"},
	{Story: "TestOperate", Why: "it compares what commands print with the docs, whose cluster has three nodes. This one has the control plane's too"},
	{Story: "TestSocketsAreConnectedDirectlyUntilItIsTurnedOff", Why: "it names the cgroup of a node's pods as the lab has it. Where a container has it was not tried"},

	{Story: "TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", Engine: Docker,
		Why: "Docker chooses the address of a container that starts again, and nobody tells the Node of it while the API server is away"},
	{Story: "TestPodsLeaveWithTheirServicesAddress", Engine: Docker, Why: "kind's CNI masquerades what leaves the cluster"},

	{Story: "TestUDPServiceIsReachedOnEveryPath", Needs: Dual, Why: bothFamilies},
	{Story: "TestIPv6OnlyServiceIsReachedOnEveryPath", Needs: Dual, Why: bothFamilies},
	{Story: "TestAddressOfAForeignHostIsNotAnnounced", Needs: Dual, Why: bothFamilies},
	{Story: "TestPodsLeaveWithTheirServicesAddress", Needs: Dual, Why: bothFamilies},
	{Story: "TestBadPoolIsRejectedOrMarkedWhileAnotherServes", Needs: Dual, Why: bothFamilies},
	{Story: "TestServiceThatAsksForTheImpossibleIsToldWhyAndOthersAreNot", Needs: Dual, Why: bothFamilies},
	{Story: "TestServicesThatPeopleWrite", Needs: Dual, Why: bothFamilies},
	{Story: "TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", Needs: Dual, Why: bothFamilies},
	{Story: "TestPortRangesReachTheSamePortOfThePods", Needs: Dual, Why: bothFamilies},
	{Story: "TestServiceHasTheNodesOwnAddresses", Needs: Dual, Why: bothFamilies},
	{Story: "TestPodsKeepTheirAddressesInTheCluster", Needs: Dual, Why: bothFamilies},
	{Story: "TestTwoAddressesOfOneServiceAreAtTwoNodes", Needs: IPv4, Why: fixedIPv4},
	{Story: "TestAttackByFlapsMovesNoAddress", Needs: IPv4, Why: fixedIPv4},

	{Story: "TestAgentKilledConnectionsGoOnAndTheNextChangesNothing", KubeProxy: true, Why: forwards},
	{Story: "TestTableDeletedByHandIsRepairedAndSaid", KubeProxy: true, Why: forwards},
	{Story: "TestAPIServerAwayForAMinuteNotOneRequestFails", KubeProxy: true, Why: forwards},
	{Story: "TestHostPortTakesNoPortOfAVIP", KubeProxy: true, Why: forwards},
	{Story: "TestNodeWithoutPowerOthersTakeItsAddressesAndGiveThemBack", KubeProxy: true, Why: forwards},
	{Story: "TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", KubeProxy: true, Why: forwards},
	{Story: "TestPodsLeaveWithTheirServicesAddress", KubeProxy: true, Why: forwards},
	{Story: "TestPortRangesReachTheSamePortOfThePods", KubeProxy: true, Why: forwards},
	{Story: "TestTwoAddressesOfOneServiceAreAtTwoNodes", KubeProxy: true, Why: forwards},
	{Story: "TestServiceHasTheNodesOwnAddresses", KubeProxy: true, Why: forwards},
	{Story: "TestAttackByFlapsMovesNoAddress", KubeProxy: true, Why: forwards},
	{Story: "TestServicesThatPeopleWrite", KubeProxy: true, Why: forwards},
}

// LeftOut are the stories that a cluster of these options cannot run, with the reasons.
func (o Options) LeftOut() map[string]string {
	all := map[string]string{}
	for _, d := range Differences {
		engine := d.Engine == "" || (d.Engine == Podman) == o.podman()
		if engine && (d.Needs == "" || o.lacks(d.Needs)) && (!d.KubeProxy || o.KubeProxy) {
			all[d.Story] = d.Why
		}
	}
	return all
}

// lacks reports whether the cluster does not have the addresses of a family, or of both
// if that is Dual.
func (o Options) lacks(family string) bool { return o.family() != Dual && o.family() != family }

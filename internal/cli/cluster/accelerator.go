package cluster

// Engine names what forwards on the agent's node.
func (a *Agent) Engine() string {
	if a.Before == "" {
		return a.Mode
	}
	return a.Mode + "+" + a.Before
}

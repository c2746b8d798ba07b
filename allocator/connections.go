package allocator

import "github.com/fairlead/fairlead/internal/snapshot"

// parseConnections refuses annotations about connections that cannot be read: no address
// depends on them, and the controller alone tells the owner of a Service.
func parseConnections(svc *snapshot.Service) *snapshot.Refusal {
	for _, one := range []struct {
		key   string
		parse func(key, text string) (bool, *snapshot.Refusal)
	}{
		{snapshot.AnnotationRemoved, parseRemoved},
		{snapshot.AnnotationAffinity, parseAffinity},
		{snapshot.AnnotationSourcePorts, parseSourcePorts},
		{snapshot.AnnotationHelper, parseHelper},
	} {
		if _, why := parseOf(svc, []string{one.key}, one.parse, equal); why != nil {
			return why
		}
	}
	return nil
}

func parseRemoved(key, text string) (bool, *snapshot.Refusal) {
	reset, ok := snapshot.ParseRemoved(text)
	if !ok {
		return false, refuse(InvalidRequest, "%s: %s is neither %s nor %s", key, quote(text), snapshot.RemovedKeep, snapshot.RemovedReset)
	}
	return reset, nil
}

func parseAffinity(key, text string) (bool, *snapshot.Refusal) {
	all, ok := snapshot.ParseAffinity(text)
	if !ok {
		return false, refuse(InvalidRequest, "%s: %s is neither %s nor %s", key, quote(text), snapshot.AffinityPort, snapshot.AffinityAllPorts)
	}
	return all, nil
}

func parseHelper(key, text string) (bool, *snapshot.Refusal) {
	h, ok := snapshot.ParseHelper(text)
	if !ok {
		return false, refuse(InvalidRequest, "%s: %s is neither %s nor %s", key, quote(text), snapshot.TFTP, snapshot.FTP)
	}
	return h != "", nil
}

func parseSourcePorts(key, text string) (bool, *snapshot.Refusal) {
	keep, ok := snapshot.ParseSourcePorts(text)
	if !ok {
		return false, refuse(InvalidRequest, "%s: %s is neither %s nor %s", key, quote(text), snapshot.SourcePortsRandom, snapshot.SourcePortsKeep)
	}
	return keep, nil
}

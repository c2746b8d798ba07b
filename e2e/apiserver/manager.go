package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
)

const controllerManager = "kube-controller-manager"

// RunControllerManager starts the kube-controller-manager of the same version with
// all its usual controllers. A node whose kubelet renews nothing for three seconds is
// lost to it. It works some time after this returns. The function that is returned
// ends it, and fails with the end of its log if it had ended by itself.
func (s *Server) RunControllerManager() (stop func() error, err error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	err = s.run(controllerManager, "--kubeconfig="+s.Kubeconfig, "--leader-elect=false",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]), "--cert-dir="+s.file("manager-certs"),
		"--service-account-private-key-file="+s.file("accounts.key"), "--root-ca-file="+s.file(filepath.Join("certs", "apiserver.crt")),
		"--allocate-node-cidrs=false", "--node-monitor-period=500ms", "--node-monitor-grace-period=3s")
	if err != nil {
		return nil, err
	}
	p := s.started[len(s.started)-1]
	return func() error {
		ended := p.ended()
		p.stop()
		if !ended {
			return nil
		}
		log, _ := os.ReadFile(s.file(controllerManager + ".log"))
		return fmt.Errorf("%s has ended: %s", controllerManager, log[max(0, len(log)-2000):])
	}, nil
}

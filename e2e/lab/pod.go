package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Pod is a pod with its first container. Once found, it is reached through its
// node, also while no API server answers.
type Pod struct {
	Namespace, Name, Node string
	IPs                   []string // IPv4 first, as the cluster has it
	Ready                 bool
	Container             string // id of the container that runs, or ran last
}

// Pods lists the pods that match a label selector, by name, without those that
// are being deleted.
func (l *Lab) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	out, err := l.Kubectl(ctx, "get", "pods", "-n", namespace, "-l", selector, "-o", "json")
	if err != nil {
		return nil, err
	}
	return parsePods(out)
}

func parsePods(data []byte) ([]Pod, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Namespace, Name   string
				DeletionTimestamp *time.Time
			}
			Spec   struct{ NodeName string }
			Status struct {
				PodIPs            []struct{ IP string }
				ContainerStatuses []struct {
					ContainerID string
					Ready       bool
				}
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	var pods []Pod
	for _, item := range list.Items {
		if item.Metadata.DeletionTimestamp != nil {
			continue
		}
		p := Pod{Namespace: item.Metadata.Namespace, Name: item.Metadata.Name, Node: item.Spec.NodeName}
		for _, ip := range item.Status.PodIPs {
			p.IPs = append(p.IPs, ip.IP)
		}
		if s := item.Status.ContainerStatuses; len(s) > 0 {
			p.Container, p.Ready = strings.TrimPrefix(s[0].ContainerID, "containerd://"), s[0].Ready
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// joinScript joins the cgroup v2 of the process $0 before it becomes the command:
// programs that are attached to the pod's cgroup see what it does.
const joinScript = `set -e
cgroup=$(sed -n 's/^0:://p' "/proc/$0/cgroup")
for dir in /sys/fs/cgroup /sys/fs/cgroup/unified; do
	if [ -e "$dir/cgroup.controllers" ]; then echo 0 >"$dir$cgroup/cgroup.procs"; fi
done
exec "$@"`

// PodCommand is a command that will run in the pod's container.
func (l *Lab) PodCommand(ctx context.Context, p Pod, args ...string) (*exec.Cmd, error) {
	pid, err := l.podPID(ctx, p)
	if err != nil {
		return nil, err
	}
	enter := []string{"/bin/sh", "-c", joinScript, pid, "nsenter", "--target=" + pid, "--mount", "--uts", "--net", "--pid", "--"}
	return l.Command(ctx, p.Node, append(enter, args...)...)
}

// podPID is the process of the pod's container, as the node numbers it.
func (l *Lab) podPID(ctx context.Context, p Pod) (string, error) {
	out, err := l.Exec(ctx, p.Node, "ctr", "--namespace=k8s.io", "tasks", "ls")
	if err != nil {
		return "", err
	}
	pid, err := taskPID(string(out), p.Container)
	if err != nil {
		err = fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return pid, err
}

// PodLink is the node's end of the pod's link. It may be the port of a bridge, which no route
// names.
func (l *Lab) PodLink(ctx context.Context, p Pod) (string, error) {
	pid, err := l.podPID(ctx, p)
	if err != nil {
		return "", err
	}
	inside, err := l.Exec(ctx, p.Node, "nsenter", "--target="+pid, "--net", "ip", "-json", "link", "show", "eth0")
	if err != nil {
		return "", err
	}
	outside, err := l.Exec(ctx, p.Node, "ip", "-json", "link", "show")
	if err != nil {
		return "", err
	}
	link, err := otherEnd(inside, outside)
	if err != nil {
		err = fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return link, err
}

// otherEnd finds the link of a node to which the link of a pod leads, both by "ip -json link".
func otherEnd(pod, node []byte) (string, error) {
	type link struct {
		Index int    `json:"ifindex"`
		Name  string `json:"ifname"`
		Peer  int    `json:"link_index"` // in another network namespace
	}
	var inside, outside []link
	if err := errors.Join(json.Unmarshal(pod, &inside), json.Unmarshal(node, &outside)); err != nil {
		return "", err
	}
	for _, of := range outside {
		if len(inside) == 1 && of.Index == inside[0].Peer {
			return of.Name, nil
		}
	}
	return "", fmt.Errorf("no link of the node leads to %s", pod)
}

// taskPID finds the process of a container in "ctr tasks ls", by the pids of
// the node.
func taskPID(list, container string) (string, error) {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == container && f[2] == "RUNNING" {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("container %q does not run", container)
}

// KillPod kills the pod's container with SIGKILL; its kubelet starts another.
func (l *Lab) KillPod(ctx context.Context, p Pod) error { return l.SignalPod(ctx, p, "SIGKILL") }

// SignalPod sends a signal, by its name, to the pod's container.
func (l *Lab) SignalPod(ctx context.Context, p Pod, signal string) error {
	if p.Container == "" {
		return errors.New("signal: the pod has no container")
	}
	_, err := l.Exec(ctx, p.Node, "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal="+signal, p.Container)
	return err
}

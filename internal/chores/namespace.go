package chores

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// enforce is the label by which Pod Security admission lets the agents in, with the
// value privileged. The other labels of labels only stop warnings about them.
const enforce = "pod-security.kubernetes.io/enforce"

var labels = []string{enforce, "pod-security.kubernetes.io/audit", "pod-security.kubernetes.io/warn"}

const privileged = "privileged"

// labelEvery is how often the label is looked at.
const labelEvery = time.Minute

// namespace keeps the labels of the installation's namespace.
type namespace struct {
	client kubernetes.Interface
	name   string
	log    *slog.Logger
	said   string // the foreign value that was logged last
}

// keep sets the labels that are missing. Somebody wrote those that are there, and may
// write them again: they stay.
func (n *namespace) keep(ctx context.Context) error {
	have, err := n.client.CoreV1().Namespaces().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("labels of namespace %s: %w", n.name, err)
	}
	if v, ok := have.Labels[enforce]; ok && v != privileged {
		if v != n.said {
			n.log.Warn("Pod Security admission refuses the agents in this namespace: set its label to privileged", "namespace", n.name, "label", enforce, "value", v)
		}
		n.said = v
		return nil
	}
	missing := map[string]string{}
	for _, l := range labels {
		if _, ok := have.Labels[l]; !ok {
			missing[l] = privileged
		}
	}
	if len(missing) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": missing, "resourceVersion": have.ResourceVersion}})
	if err != nil {
		return err
	}
	if _, err := n.client.CoreV1().Namespaces().Patch(ctx, n.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("labels of namespace %s: %w", n.name, err)
	}
	n.log.Info("labelled the namespace so that Pod Security admission lets the agents in", "namespace", n.name)
	return nil
}

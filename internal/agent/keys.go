package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/keyring"
)

// followKeys gives the gossip the keys: first those that the last agent kept, so
// that no API server is needed, then whatever the Secret holds.
func (a *Agent) followKeys(ctx context.Context) error {
	if keys, err := loadKeys(a.cfg.StateDir); err != nil {
		a.cfg.Log.Warn("the saved keys are of no use", "error", err)
	} else if keys != nil {
		a.gossip.SetKeys(keys)
	}
	byName := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, keyring.Secret).String()
	})
	secrets := informers.NewSharedInformerFactoryWithOptions(a.cfg.Clients.Kube, 0, informers.WithNamespace(a.cfg.Namespace), byName).Core().V1().Secrets().Informer()
	if _, err := secrets.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    a.takeKeys,
		UpdateFunc: func(_, obj any) { a.takeKeys(obj) },
		// The keys of a Secret that is gone go on to be used until there is another.
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	secrets.Run(ctx.Done())
	return nil
}

func (a *Agent) takeKeys(obj any) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return
	}
	keys, err := keyring.Parse(secret.Data[keyring.Data])
	if err != nil {
		a.cfg.Log.Error("the agents' keys cannot be read; those that were known go on", "secret", keyring.Secret, "error", err)
		return
	}
	a.gossip.SetKeys(keys)
	if err := saveKeys(a.cfg.StateDir, keys); err != nil {
		a.cfg.Log.Error("the agents' keys", "error", err)
	}
}

func keysPath(dir string) string { return filepath.Join(dir, "members.keys") }

// saveKeys writes keys in dir for the next agent, readable by root alone.
func saveKeys(dir string, keys keyring.Keys) error {
	if dir == "" {
		return nil
	}
	f, err := os.CreateTemp(dir, "members-*.new") // mode 0600
	if err != nil {
		return fmt.Errorf("save keys: %w", err)
	}
	_, err = f.Write(keys.Format())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), keysPath(dir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save keys: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// loadKeys reads what the last agent saved in dir; nil if there is nothing.
func loadKeys(dir string) (keyring.Keys, error) {
	if dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(keysPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	keys, err := keyring.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	return keys, nil
}

package doctor

import (
	"context"
	"errors"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// configuration loads the configuration and says everything that is wrong with it. With faults, the rest of the examination goes by
// what is left of it.
func (e *examination) configuration(ctx context.Context) (usable bool) {
	f := e.found["configuration"]
	cfg, err := e.load(ctx, f)
	var faults *config.Error
	if errors.As(err, &faults) {
		for _, fault := range faults.Faults {
			subject := place(fault.Source, fault.Key)
			found := fault.Problem
			if fault.Value != "" {
				found = `"` + fault.Value + `": ` + found
			}
			do := fault.Fix
			if do == "" {
				do = "flyproxy config keys lists what there is"
			}
			f.add(configurationFault, subject, found, do)
		}
		e.warn(f, faults.Warnings)
		e.cfg = faults.Partial
		return false
	}
	e.cfg = cfg
	from := "the environment (there is no file)"
	if cfg.File != "" {
		from = cfg.File + " and the environment"
	}
	f.add(configurationGood, "", "no faults; read from "+from, "")
	e.warn(f, cfg.Warnings)
	return true
}

func (e *examination) warn(f *findings, all []config.Warning) {
	for _, w := range all {
		f.add(configurationWarning, place(w.Source, w.Key), w.Text, "write it as it is meant; flyproxy config print shows what is in force")
	}
}

// place is where a value stands, and its key. A default stands nowhere.
func place(source, key string) string {
	switch {
	case key == "":
		return source
	case source == "default":
		return key
	}
	return source + ": " + key
}

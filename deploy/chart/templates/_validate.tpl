{{/* Fails with every value that cannot work, and says what to do. The schema checks types and ranges before. */}}
{{- define "hypersender-grpc.validate" -}}
{{- $faults := concat (include "hypersender-grpc.faultsOfSecrets" . | fromYamlArray) (include "hypersender-grpc.faultsOfReplicas" . | fromYamlArray) (include "hypersender-grpc.faultsOfPod" . | fromYamlArray) (include "hypersender-grpc.faultsOfSettings" . | fromYamlArray) -}}
{{- with $faults -}}
{{- fail (printf "%d value(s) at fault:\n  %s\n" (len .) (join "\n  " .)) -}}
{{- end -}}
{{- end }}

{{- define "hypersender-grpc.faultsOfSecrets" -}}
{{- $values := .Values -}}
{{- $passthrough := eq (toString $values.settings.credentials) "passthrough" -}}
{{- $sandbox := eq (toString $values.settings.sandbox) "true" -}}
{{- $tokens := or $values.apiKey.existingSecret $values.instances.existingSecret -}}
{{- if not (or $tokens $passthrough $sandbox) }}
- "apiKey.existingSecret: the service needs a token of Hypersender; name a Secret here or in instances.existingSecret"
{{- end }}
{{- if and $tokens $passthrough }}
- "settings.credentials: with passthrough each call brings its token; leave apiKey and instances empty"
{{- end }}
{{- if and $values.callers.toml $values.callers.existingSecret }}
- "callers.toml: given twice, here and by callers.existingSecret; set one of them"
{{- end }}
{{- if and $values.tls.clientCa.existingSecret (not $values.tls.existingSecret) }}
- "tls.clientCa.existingSecret: needs tls.existingSecret, because without TLS no client shows a certificate"
{{- end }}
{{- if and $values.tls.existingSecret (not $values.admin.enabled) }}
- "admin.enabled: must be true with tls.existingSecret, because the probes then go to the admin port"
{{- end }}
{{- with $values.avatars }}
{{- if and .enabled $passthrough }}
- "avatars.enabled: cannot be used with settings.credentials passthrough, because a browser brings no token"
{{- end }}
{{- if and .enabled $sandbox }}
- "avatars.enabled: cannot be used with settings.sandbox, whose images are served on loopback alone"
{{- end }}
{{- if and .enabled (not (or .url $values.callers.toml $values.callers.existingSecret)) }}
- "avatars.url: nothing to serve without it, unless there are callers"
{{- end }}
{{- if and .url (not .key.existingSecret) }}
- "avatars.key.existingSecret: avatars.url needs it; make a key with `openssl rand -hex 32`"
{{- end }}
{{- if and (or .url .key.existingSecret) (not .enabled) }}
- "avatars.enabled: must be true with avatars.url or avatars.key"
{{- end }}
{{- if and .key.existingSecret (not .url) }}
- "avatars.key.existingSecret: has no effect without avatars.url"
{{- end }}
{{- end }}
{{- if and $values.otlp.headers.existingSecret (not $values.otlp.endpoint) }}
- "otlp.headers.existingSecret: has no effect without otlp.endpoint"
{{- end }}
{{- if and $values.upstreamProxyAuth.existingSecret (not (index $values.settings "upstream-proxy")) }}
- "upstreamProxyAuth.existingSecret: has no effect without settings.upstream-proxy"
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfReplicas" -}}
{{- $values := .Values -}}
{{- with $values.store }}
{{- if and .url .file.enabled }}
- "store.url: given twice, here and by store.file.enabled; set one of them"
{{- end }}
{{- if contains "@" .url }}
- "store.url: holds a user or a password; use store.username and store.password.existingSecret"
{{- end }}
{{- if and (or .username .password.existingSecret .ca.existingSecret) (not .url) }}
- "store.url: must be set with store.username, store.password or store.ca"
{{- end }}
{{- if and .username (not .password.existingSecret) }}
- "store.password.existingSecret: must be set with store.username"
{{- end }}
{{- if and .ca.existingSecret .url (not (regexMatch "^(rediss|valkeys)://" .url)) }}
- "store.ca.existingSecret: needs TLS; begin store.url with rediss:// or valkeys://"
{{- end }}
{{- end }}
{{- $names := ternary (dict "name" "autoscaling.enabled" "count" $values.autoscaling.maxReplicas) (dict "name" "replicas" "count" $values.replicas) $values.autoscaling.enabled }}
{{- if gt (int $names.count) 1 }}
{{- if $values.store.file.enabled }}
- {{ printf "%s: %d replicas cannot use one file; set store.url in place of store.file" $names.name (int $names.count) | quote }}
{{- else if not (or $values.store.url $values.allowReplicasWithoutStore) }}
- {{ printf "%s: %d replicas without store.url ask WhatsApp %d times as fast as settings.rate says; set store.url, or divide the rate and set allowReplicasWithoutStore" $names.name (int $names.count) (int $names.count) | quote }}
{{- end }}
{{- end }}
{{- with $values.autoscaling }}
{{- if .enabled }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
- "autoscaling.minReplicas: is greater than autoscaling.maxReplicas"
{{- end }}
{{- if not (dig "requests" "cpu" "" $values.resources) }}
- "resources.requests.cpu: the autoscaler needs it, because its target is a part of it"
{{- end }}
{{- end }}
{{- end }}
{{- with $values.rollingUpdate }}
{{- if and (eq (toString .maxSurge | trimSuffix "%") "0") (eq (toString .maxUnavailable | trimSuffix "%") "0") }}
- "rollingUpdate.maxSurge: cannot be 0 when rollingUpdate.maxUnavailable is 0 too, because no pod could be replaced"
{{- end }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfPod" -}}
{{- $values := .Values -}}
{{- $facts := include "hypersender-grpc.facts" . | fromYaml -}}
{{- if not $values.image.repository }}
- "image.repository: name the repository into which you pushed the image"
{{- end }}
{{- if not (regexMatch "^[a-z]" (include "hypersender-grpc.fullname" .)) }}
- {{ printf "fullnameOverride: the name %s of the Services must begin with a letter; set one that does" (include "hypersender-grpc.fullname" .) | quote }}
{{- end }}
{{- if lt (int $facts.grace) (int $facts.drain) }}
- {{ printf "terminationGracePeriodSeconds: %d is less than the %d that a drain needs (drain.waitSeconds %d + drain.timeoutSeconds %d + 10)" (int $facts.grace) (int $facts.drain) (int $values.drain.waitSeconds) (int $values.drain.timeoutSeconds) | quote }}
{{- end }}
{{- include "hypersender-grpc.faultsOfSizes" . }}
{{- $ports := list (int $values.ports.grpc) }}
{{- if $values.admin.enabled }}{{ $ports = append $ports (int $values.ports.admin) }}{{ end }}
{{- if $values.avatars.enabled }}{{ $ports = append $ports (int $values.ports.avatars) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
- "ports: two of them are the same"
{{- end }}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.admin.enabled) }}
- "metrics.serviceMonitor.enabled: needs admin.enabled, because /metrics is on the admin port"
{{- end }}
{{- end }}

{{/* Memory and disk that are too small for the settings: the pod would be killed, or the store would detach. */}}
{{- define "hypersender-grpc.faultsOfSizes" -}}
{{- $settings := .Values.settings -}}
{{- $needed := add (default "96MiB" (index $settings "cache-bytes") | include "hypersender-grpc.bytes") (include "hypersender-grpc.bytes" "256MiB") -}}
{{- if .Values.avatars.enabled -}}
{{- $needed = add $needed (default "64MiB" (index $settings "avatars-bytes") | include "hypersender-grpc.bytes") -}}
{{- end -}}
{{- with dig "limits" "memory" "" .Values.resources }}
{{- $limit := include "hypersender-grpc.bytes" . }}
{{- if and $limit (lt (int64 $limit) (int64 $needed)) }}
- {{ printf "resources.limits.memory: %v is less than the %d MiB for settings.cache-bytes, settings.avatars-bytes and the process" . (div $needed 1048576) | quote }}
{{- end }}
{{- end }}
{{- with .Values.store.file }}
{{- $bytes := default "1GiB" (index $settings "store-bytes") }}
{{- if and .enabled (not .existingClaim) (le (include "hypersender-grpc.bytes" .size | int64) (include "hypersender-grpc.bytes" $bytes | int64)) }}
- {{ printf "store.file.size: %s must be more than settings.store-bytes (%v), because the journal needs room too" .size $bytes | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfSettings" -}}
{{- $settings := .Values.settings -}}
{{- $others := include "hypersender-grpc.setByOthers" . | fromYaml -}}
{{- range $flag, $_ := $settings }}
{{- with index $others $flag }}
- {{ printf "settings.%s: the chart sets this flag; use %s" $flag . | quote }}
{{- end }}
{{- end }}
{{- with index $settings "upstream-proxy" }}
{{- if contains "@" . }}
- "settings.upstream-proxy: holds a user or a password; use upstreamProxyAuth.existingSecret"
{{- end }}
{{- if and $.Values.avatars.enabled (ne (index $settings "avatars-mode" | toString) "redirect") }}
- "settings.avatars-mode: must be redirect with settings.upstream-proxy, because images are downloaded without a proxy"
{{- end }}
{{- end }}
{{- end }}

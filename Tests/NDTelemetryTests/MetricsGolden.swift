enum MetricsGolden {
    static let text = """
        # HELP ndbpf_build_info What runs; the value is always 1.
        # TYPE ndbpf_build_info gauge
        ndbpf_build_info{version="0.1.0",engine="user",scenario="boundary"} 1
        # HELP ndbpf_start_time_seconds When the daemon started, seconds since 1970.
        # TYPE ndbpf_start_time_seconds gauge
        ndbpf_start_time_seconds 1700000000.5
        # HELP ndbpf_policy_generation Generation of the policy in force.
        # TYPE ndbpf_policy_generation gauge
        ndbpf_policy_generation 0
        # HELP ndbpf_interface_protected 1: ndbpf's program of the interface's role stands before all others; 0: it does not.
        # TYPE ndbpf_interface_protected gauge
        ndbpf_interface_protected{interface="eth0",role="protected"} 1
        ndbpf_interface_protected{interface="eth1",role="guarded"} 0
        # HELP ndbpf_interfaces_put_right_total Times that a program stood where it has to again after it did not.
        # TYPE ndbpf_interfaces_put_right_total counter
        ndbpf_interfaces_put_right_total 0
        # HELP ndbpf_interface_reads_failed_total Times that the list of interfaces could not be read.
        # TYPE ndbpf_interface_reads_failed_total counter
        ndbpf_interface_reads_failed_total 0
        # HELP ndbpf_packets_total Packets that passed, by direction and protection, or the reason why they need none.
        # TYPE ndbpf_packets_total counter
        ndbpf_packets_total{direction="out",traffic="clear"} 12
        ndbpf_packets_total{direction="out",traffic="protected"} 0
        ndbpf_packets_total{direction="out",traffic="exempt"} 0
        ndbpf_packets_total{direction="in",traffic="clear"} 0
        ndbpf_packets_total{direction="in",traffic="protected"} 0
        ndbpf_packets_total{direction="in",traffic="exempt"} 0
        ndbpf_packets_total{direction="out",traffic="not_unicast"} 0
        ndbpf_packets_total{direction="out",traffic="forwarded"} 0
        ndbpf_packets_total{direction="out",traffic="unaddressed"} 0
        ndbpf_packets_total{direction="out",traffic="ipsec"} 0
        ndbpf_packets_total{direction="out",traffic="ike"} 0
        ndbpf_packets_total{direction="out",traffic="fragment"} 0
        ndbpf_packets_total{direction="in",traffic="not_unicast"} 0
        ndbpf_packets_total{direction="in",traffic="forwarded"} 0
        ndbpf_packets_total{direction="in",traffic="ipsec"} 0
        ndbpf_packets_total{direction="in",traffic="ike"} 0
        ndbpf_packets_total{direction="in",traffic="fragment"} 0
        ndbpf_packets_total{direction="in",traffic="grace"} 0
        # HELP ndbpf_bytes_total IP bytes that passed, by direction and protection, or the reason why they need none.
        # TYPE ndbpf_bytes_total counter
        ndbpf_bytes_total{direction="out",traffic="clear"} 1234567890123
        ndbpf_bytes_total{direction="out",traffic="protected"} 0
        ndbpf_bytes_total{direction="out",traffic="exempt"} 0
        ndbpf_bytes_total{direction="in",traffic="clear"} 0
        ndbpf_bytes_total{direction="in",traffic="protected"} 0
        ndbpf_bytes_total{direction="in",traffic="exempt"} 0
        ndbpf_bytes_total{direction="out",traffic="not_unicast"} 0
        ndbpf_bytes_total{direction="out",traffic="forwarded"} 0
        ndbpf_bytes_total{direction="out",traffic="unaddressed"} 0
        ndbpf_bytes_total{direction="out",traffic="ipsec"} 0
        ndbpf_bytes_total{direction="out",traffic="ike"} 0
        ndbpf_bytes_total{direction="out",traffic="fragment"} 0
        ndbpf_bytes_total{direction="in",traffic="not_unicast"} 0
        ndbpf_bytes_total{direction="in",traffic="forwarded"} 0
        ndbpf_bytes_total{direction="in",traffic="ipsec"} 0
        ndbpf_bytes_total{direction="in",traffic="ike"} 0
        ndbpf_bytes_total{direction="in",traffic="fragment"} 0
        ndbpf_bytes_total{direction="in",traffic="grace"} 0
        # HELP ndbpf_dropped_packets_total Packets dropped, by reason.
        # TYPE ndbpf_dropped_packets_total counter
        ndbpf_dropped_packets_total{reason="latched"} 3
        ndbpf_dropped_packets_total{reason="held"} 0
        ndbpf_dropped_packets_total{reason="clear_inbound"} 0
        ndbpf_dropped_packets_total{reason="clear_on_secured"} 0
        ndbpf_dropped_packets_total{reason="blocked"} 0
        ndbpf_dropped_packets_total{reason="malformed"} 0
        ndbpf_dropped_packets_total{reason="fragment"} 0
        ndbpf_dropped_packets_total{reason="redirect_failed"} 0
        ndbpf_dropped_packets_total{reason="no_sa"} 0
        ndbpf_dropped_packets_total{reason="unknown_spi"} 0
        ndbpf_dropped_packets_total{reason="authentication"} 0
        ndbpf_dropped_packets_total{reason="replay"} 0
        ndbpf_dropped_packets_total{reason="esp_malformed"} 0
        ndbpf_dropped_packets_total{reason="sequence_exhausted"} 0
        ndbpf_dropped_packets_total{reason="reassembly_timeout"} 0
        ndbpf_dropped_packets_total{reason="reassembly_full"} 0
        ndbpf_dropped_packets_total{reason="too_big"} 0
        ndbpf_dropped_packets_total{reason="send_failed"} 0
        ndbpf_dropped_packets_total{reason="deliver_failed"} 0
        ndbpf_dropped_packets_total{reason="wrong_address"} 0
        ndbpf_dropped_packets_total{reason="callout_header"} 0
        ndbpf_dropped_packets_total{reason="policy_changed"} 0
        ndbpf_dropped_packets_total{reason="bad_source"} 0
        ndbpf_dropped_packets_total{reason="icmp_error"} 0
        ndbpf_dropped_packets_total{reason="secured_full"} 0
        ndbpf_dropped_packets_total{reason="unguarded"} 0
        # HELP ndbpf_dropped_bytes_total IP bytes dropped, by reason.
        # TYPE ndbpf_dropped_bytes_total counter
        ndbpf_dropped_bytes_total{reason="latched"} 0
        ndbpf_dropped_bytes_total{reason="held"} 0
        ndbpf_dropped_bytes_total{reason="clear_inbound"} 0
        ndbpf_dropped_bytes_total{reason="clear_on_secured"} 0
        ndbpf_dropped_bytes_total{reason="blocked"} 0
        ndbpf_dropped_bytes_total{reason="malformed"} 0
        ndbpf_dropped_bytes_total{reason="fragment"} 0
        ndbpf_dropped_bytes_total{reason="redirect_failed"} 0
        ndbpf_dropped_bytes_total{reason="no_sa"} 0
        ndbpf_dropped_bytes_total{reason="unknown_spi"} 0
        ndbpf_dropped_bytes_total{reason="authentication"} 0
        ndbpf_dropped_bytes_total{reason="replay"} 0
        ndbpf_dropped_bytes_total{reason="esp_malformed"} 0
        ndbpf_dropped_bytes_total{reason="sequence_exhausted"} 0
        ndbpf_dropped_bytes_total{reason="reassembly_timeout"} 0
        ndbpf_dropped_bytes_total{reason="reassembly_full"} 0
        ndbpf_dropped_bytes_total{reason="too_big"} 0
        ndbpf_dropped_bytes_total{reason="send_failed"} 0
        ndbpf_dropped_bytes_total{reason="deliver_failed"} 0
        ndbpf_dropped_bytes_total{reason="wrong_address"} 0
        ndbpf_dropped_bytes_total{reason="callout_header"} 0
        ndbpf_dropped_bytes_total{reason="policy_changed"} 0
        ndbpf_dropped_bytes_total{reason="bad_source"} 0
        ndbpf_dropped_bytes_total{reason="icmp_error"} 0
        ndbpf_dropped_bytes_total{reason="secured_full"} 0
        ndbpf_dropped_bytes_total{reason="unguarded"} 0
        # HELP ndbpf_discards_total Packets dropped by filters where payload is shown, by layer.
        # TYPE ndbpf_discards_total counter
        ndbpf_discards_total{layer="stream"} 0
        ndbpf_discards_total{layer="datagram_data"} 0
        ndbpf_discards_total{layer="inbound_ippacket"} 0
        ndbpf_discards_total{layer="outbound_ippacket"} 0
        # HELP ndbpf_callouts_asked_total Packets shown to callouts' programs.
        # TYPE ndbpf_callouts_asked_total counter
        ndbpf_callouts_asked_total 0
        # HELP ndbpf_callouts_overridden_total Blocks of callouts overridden because ALE must classify the packet.
        # TYPE ndbpf_callouts_overridden_total counter
        ndbpf_callouts_overridden_total 0
        # HELP ndbpf_callouts_missing_total Packets for whose callout no program answered.
        # TYPE ndbpf_callouts_missing_total counter
        ndbpf_callouts_missing_total 0
        # HELP ndbpf_flows Connections in the flow table, by state.
        # TYPE ndbpf_flows gauge
        ndbpf_flows{state="clear"} 0
        ndbpf_flows{state="secure"} 2
        ndbpf_flows{state="exempt"} 0
        # HELP ndbpf_table_entries Entries in the tables that grow with connections.
        # TYPE ndbpf_table_entries gauge
        ndbpf_table_entries{table="flows"} 3
        ndbpf_table_entries{table="secured"} 2
        # HELP ndbpf_table_size Entries that they have room for.
        # TYPE ndbpf_table_size gauge
        ndbpf_table_size{table="flows"} 65536
        ndbpf_table_size{table="secured"} 64
        # HELP ndbpf_flows_created_total Entries made in the flow table.
        # TYPE ndbpf_flows_created_total counter
        ndbpf_flows_created_total 0
        # HELP ndbpf_flow_upgrades_total Clear connections that became protected.
        # TYPE ndbpf_flow_upgrades_total counter
        ndbpf_flow_upgrades_total 1
        # HELP ndbpf_secured_full_total Secured connections that found no room in their table.
        # TYPE ndbpf_secured_full_total counter
        ndbpf_secured_full_total 0
        # HELP ndbpf_guarded_packets_total Packets of secured connections that met the guard of an interface that is not protected.
        # TYPE ndbpf_guarded_packets_total counter
        ndbpf_guarded_packets_total 0
        # HELP ndbpf_address_failures_total Reads of this host's addresses that failed: the last ones stayed in force.
        # TYPE ndbpf_address_failures_total counter
        ndbpf_address_failures_total 0
        # HELP ndbpf_peers Peers known, by state.
        # TYPE ndbpf_peers gauge
        ndbpf_peers{state="unknown"} 0
        ndbpf_peers{state="negotiating"} 0
        ndbpf_peers{state="secured"} 1
        ndbpf_peers{state="lost"} 0
        ndbpf_peers{state="clear"} 4
        # HELP ndbpf_peers_lost_total Peers whose last SA went.
        # TYPE ndbpf_peers_lost_total counter
        ndbpf_peers_lost_total 0
        # HELP ndbpf_negotiations_running Key negotiations under way.
        # TYPE ndbpf_negotiations_running gauge
        ndbpf_negotiations_running 0
        # HELP ndbpf_negotiations_started_total Key negotiations started by this host.
        # TYPE ndbpf_negotiations_started_total counter
        ndbpf_negotiations_started_total 0
        # HELP ndbpf_negotiations_succeeded_total Key negotiations that ended with an SA pair.
        # TYPE ndbpf_negotiations_succeeded_total counter
        ndbpf_negotiations_succeeded_total 0
        # HELP ndbpf_negotiations_failed_total Key negotiations that failed, by reason.
        # TYPE ndbpf_negotiations_failed_total counter
        ndbpf_negotiations_failed_total{reason="authentication"} 0
        ndbpf_negotiations_failed_total{reason="no_answer"} 4
        # HELP ndbpf_negotiations_over_budget_total Peers left clear because too many negotiations ran.
        # TYPE ndbpf_negotiations_over_budget_total counter
        ndbpf_negotiations_over_budget_total 0
        # HELP ndbpf_negative_cache_hits_total Requests that the negative cache answered.
        # TYPE ndbpf_negative_cache_hits_total counter
        ndbpf_negative_cache_hits_total 0
        # HELP ndbpf_first_packets_total Stored first packets, by what became of them.
        # TYPE ndbpf_first_packets_total counter
        ndbpf_first_packets_total{result="expired"} 0
        ndbpf_first_packets_total{result="replayed"} 1
        # HELP ndbpf_security_associations ESP SAs installed, by direction.
        # TYPE ndbpf_security_associations gauge
        ndbpf_security_associations{direction="in"} 1
        ndbpf_security_associations{direction="out"} 1
        # HELP ndbpf_rekeys_total SA pairs replaced before they expired.
        # TYPE ndbpf_rekeys_total counter
        ndbpf_rekeys_total 0
        # HELP ndbpf_ike_datagrams_received_total IKE datagrams received.
        # TYPE ndbpf_ike_datagrams_received_total counter
        ndbpf_ike_datagrams_received_total 0
        # HELP ndbpf_ike_datagrams_sent_total IKE datagrams sent.
        # TYPE ndbpf_ike_datagrams_sent_total counter
        ndbpf_ike_datagrams_sent_total 0
        # HELP ndbpf_ike_datagrams_dropped_total IKE datagrams not processed, by reason.
        # TYPE ndbpf_ike_datagrams_dropped_total counter
        ndbpf_ike_datagrams_dropped_total{reason="malformed"} 0
        # HELP ndbpf_events_lost_total Events that found the ring buffer full.
        # TYPE ndbpf_events_lost_total counter
        ndbpf_events_lost_total 0
        # HELP ndbpf_peer_table_full_total Packets whose peer found no room in the peer table.
        # TYPE ndbpf_peer_table_full_total counter
        ndbpf_peer_table_full_total 0
        # HELP ndbpf_mss_clamped_total TCP handshake packets whose MSS was lowered.
        # TYPE ndbpf_mss_clamped_total counter
        ndbpf_mss_clamped_total 0
        # HELP ndbpf_oversize_total Packets that ESP would have made larger than the path.
        # TYPE ndbpf_oversize_total counter
        ndbpf_oversize_total 0

        """
}
